#!/usr/bin/env python
"""Django's command line. `./run manage …` starts it with the environment and the services it needs."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "automata_signal.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
