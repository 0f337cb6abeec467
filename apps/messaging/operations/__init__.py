"""Running the platform from the console: queues, workers, breakers, rates, dead letters, storage, switches, health.

`watching` reads how things are, `services` changes them, `pages` and its neighbours show them; `home` is what the first
page tells of it. Nothing here is on the way of a message but `switches` (of `apps.tenants`), which is read from memory.
"""
