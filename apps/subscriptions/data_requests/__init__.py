"""What people may ask for about their own data: a copy of all of it, or that it is erased.

Each request is a row that says who asked, when, by when it is to be answered and what came of it (`models`). A worker
fulfils it in steps (`running`), so that it can be left and found again, and goes on after a worker that died.
"""
