"""Launches by a second person, where an application asks for it (`campaign_approval` in its settings).

What is approved is a digest over everything that would be sent, to whom and when (`digest`): whatever is changed later
is not what somebody has approved. The launch compares it while it holds the campaign's row, whoever launches.
"""
