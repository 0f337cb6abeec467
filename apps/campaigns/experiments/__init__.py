"""A/B tests of a campaign: several contents to parts of one audience, compared, and the best of them to the rest.

Who gets what is a hash (`apps.messaging.splitting`), each variant is a dispatch of the campaign, and its figures are a
row of their own, kept by the transactions that move messages.
"""
