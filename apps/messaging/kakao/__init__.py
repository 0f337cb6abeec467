"""Alimtalk: sender profiles, templates that Kakao has approved, and what makes a message of one.

`models`      profiles and templates, as the provider has them
`remote`      the providers' administration, in our words
`services`    in step with the provider; registering and inspection
`text`        variables in the approved text, title and buttons
`preparing`   a content that names a template becomes one that holds it
"""
