"""From a name and some settings to a finished, recorded run; and the command line on top."""
