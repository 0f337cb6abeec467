"""The console's pages of campaigns: the guided flow of a draft, its check and approval, the progress and the result of
what was launched; and of segments. `apps/campaigns/admin.py` is where Django finds them.

`campaigns` puts the page together, `flow` has the steps and where further ones are added, `check` says what would
refuse or surprise at the launch, `results` what a launched campaign's page is made of.
"""
