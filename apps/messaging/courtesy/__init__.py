"""Law and courtesy: who wants a message, what advertising has to say, and when nobody is to be disturbed.

`wanted`       who agreed or did not refuse, as a predicate of audiences and asked again when a batch is claimed
`advertising`  what a text has to say where the application's `advertising_rules` are `kr`
`waiting`      who waits, and until when: night in Korea, quiet hours, the recipient's local time or active hour
`caps`         how many marketing messages a person gets
`hours`        when people are usually active, learnt from what they open

A plain transactional message without a category meets none of this: it costs a comparison (docs/courtesy.md).
"""
