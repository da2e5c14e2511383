"""What tests of several rooms share: small worlds, a small log, a live router."""
