"""The console's pages of applications: overview and settings, keys, provider credentials, code to begin with.

`hub` is the strip of tabs above them; apps above this one add tabs of their own.
"""
