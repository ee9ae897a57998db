"""S3, DynamoDB and Step Functions behind small interfaces, and the formats of what lies there."""
