"""Exports: rows of an application as a CSV file.

`columns` declares what a kind of export has, `resources` and `figures` are the kinds, `registry` knows them, also those
of upper apps. `services` takes and cancels orders and hands out files; `writing` reads pages of rows as CSV; `running`
does it step by step, a part of the file for each. See `docs/exports.md`.
"""
