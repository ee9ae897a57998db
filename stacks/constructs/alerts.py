"""How people hear of failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from stacks.constructs.dead_letters import DeadLetters
from stacks.constructs.python_function import OwnFunction
from stacks.constructs.removal import removal_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_lambda as lambda_
    from aws_cdk import aws_sqs as sqs

    from stacks.constructs.deployment import Deployment

SLACK_TIMEOUT_SECONDS = 60


class Alerts(Construct):
    """Two topics, their e-mail subscriptions, and a function that forwards to Slack, as the settings say.

    `topic` takes what runs have to tell. `watch_topic` takes what says that watching itself is broken, Slack among it, so e-mails are
    its only subscribers.

    The caller still has to put the webhook's address into the secret that the settings name.
    """

    def __init__(self, scope: Construct, construct_id: str, *, deployment: Deployment) -> None:
        super().__init__(scope, construct_id)
        settings = deployment.settings
        # A key of our own, because CloudWatch alarms cannot publish through the key that AWS manages for SNS.
        self.key = kms.Key(
            self,
            "Key",
            description=f"Alerts of pipeline {deployment.pipeline} ({settings.environment})",
            enable_key_rotation=True,
            removal_policy=removal_policy(settings),
        )
        self.topic = self._topic("Topic", emails=settings.alert_emails)
        self.watch_topic = self._topic("WatchTopic", emails=settings.watchers)
        self._let_alarms_use_key()
        self.slack: lambda_.Function | None = None
        self.slack_secret: secretsmanager.ISecret | None = None
        self.slack_dead_letters: sqs.IQueue | None = None
        if settings.slack_webhook_secret:
            self._subscribe_slack(settings.slack_webhook_secret, deployment)

    def grant_publish(self, grantee: iam.IGrantable) -> None:
        """May publish, which with an encrypted topic takes its key as well."""
        iam.Grant.add_to_principal(
            grantee=grantee, actions=["sns:Publish"], resource_arns=[self.topic.topic_arn]
        )
        iam.Grant.add_to_principal(
            grantee=grantee, actions=["kms:Decrypt", "kms:GenerateDataKey"], resource_arns=[self.key.key_arn]
        )

    def _topic(self, construct_id: str, *, emails: Sequence[str]) -> sns.ITopic:
        topic = sns.Topic(self, construct_id, master_key=self.key, enforce_ssl=True)
        # The topic's TLS policy replaces the one by which SNS lets the account's alarms in.
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["sns:Publish"], principals=[self._alarms()], resources=[topic.topic_arn]
            )
        )
        for address in emails:
            topic.add_subscription(subscriptions.EmailSubscription(address))
        return topic

    def _let_alarms_use_key(self) -> None:
        self.key.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["kms:Decrypt", "kms:GenerateDataKey*"], principals=[self._alarms()], resources=["*"]
            )
        )

    def _alarms(self) -> iam.IPrincipal:
        return iam.ServicePrincipal(
            "cloudwatch.amazonaws.com",
            conditions={"StringEquals": {"aws:SourceAccount": Stack.of(self).account}},
        )

    def _subscribe_slack(self, secret_name: str, deployment: Deployment) -> None:
        # One queue for both ways to fail: SNS cannot reach the function, or the function cannot reach Slack.
        self.slack_dead_letters = DeadLetters(self, "SlackDeadLetters")
        self.slack = OwnFunction(
            self,
            "Slack",
            deployment=deployment,
            name="slack",
            timeout_seconds=SLACK_TIMEOUT_SECONDS,
            variables={"slack_secret_arn": secret_name},
            dead_letter_queue=self.slack_dead_letters,
        ).function
        self.slack_secret = secretsmanager.Secret.from_secret_name_v2(self, "SlackWebhook", secret_name)
        self.slack_secret.grant_read(self.slack)
        self.topic.add_subscription(
            subscriptions.LambdaSubscription(self.slack, dead_letter_queue=self.slack_dead_letters)
        )
