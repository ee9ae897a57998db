"""`winnow doctor`: whether everything that Winnow needs is as it should be, one check at a time.

To add a check, write a function of the `DoctorContext` that returns a `Finding`, decorate it with `@check`, and list it in
`scripts.doctor.checks`. It may raise: `examine` makes the error the check's finding.
"""
