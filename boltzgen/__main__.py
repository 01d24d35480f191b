"""``python -m boltzgen``: the same as the ``boltzgen`` command, for launchers such as torchrun."""

from boltzgen.cli.app import main

if __name__ == "__main__":
    main()
