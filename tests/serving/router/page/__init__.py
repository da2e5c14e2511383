"""A package: pytest ends fixtures of scope "package" with the tests of one, but with the session
elsewhere.
"""
