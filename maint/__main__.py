"""``python -m maint`` is the command ``maint``."""

from maint.cli import main

if __name__ == "__main__":
    main()
