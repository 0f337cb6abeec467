"""How dates and times are written in the console, by language (`FORMAT_MODULE_PATH`): short and everywhere the same."""
