"""How operators come to the console: sign-in, second factor, sessions, invitations, and their own page.

django-allauth has the flows and django-axes the lock-out; what they may do here is said in `adapters`, `backends` and
`second_factor`. Pages are in `views`, mounted under `/account/`; `middleware` holds each request to the rules.
"""
