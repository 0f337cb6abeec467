"""Chains: one message by several channels, each tried only for whom the one before has not reached.

    dispatch of step 0 ── its batches ── messages
         │  received, or converted (`follow_until`) → the end of the chain for this user
         │  failed                                  → step 1 at once
         │  no receipt within `wait_s`              → step 1 then (unless `follow_on` is a failure only)
         ▼
    dispatch of step 1 …

All dispatches of a chain are made when it is accepted, so that every step's content is checked before anything is sent.
Which of a batch's users are due for the next step is found in the batch's own messages (`following`), a set at a time;
`FollowUp` has one row for each user who went on, so that nobody goes on twice however many devices they have.
"""
