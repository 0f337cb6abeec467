"""Users and subscriptions from CSV files, a million lines at a time.

A file is uploaded and kept encrypted (`automata_signal.private_files`), then checked from end to end, and applied when
somebody says so; both by the same code, in steps of the control queue. A step is one transaction: a chunk of lines,
what it changes, and the checkpoint behind it (`byte_offset`, `line`). A worker that is killed loses nothing and doubles
nothing.

The rules are those of `validation`, the changes those of `services.changes`. django-import-export's resources do not
help here: they save row by row, in one go, and cannot stop in the middle.

    reading.py        bytes → records with their lines and offsets
    columns.py        a header and records → rows that satisfy `apps.subscriptions.validation`
    users.py          rows → what would change, and the set-based write
    subscriptions.py  the same, with consent and events
    duplicates.py     which line of the file had a row first, and who was erased meanwhile
    rejects.py        the lines that were refused, as a file to correct and import again
    services.py       create, apply, cancel; steps.py: the work; cleaning.py: what is deleted when
"""
