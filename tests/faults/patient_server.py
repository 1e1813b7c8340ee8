"""`python -m tests.faults.patient_server`: the server, to which a signal within an hour of the first is its echo."""

import sys

from service.cli import main
from service.supervisor import supervisor

if __name__ == "__main__":
    supervisor.SIGNAL_ECHO_S = 3600.0
    sys.exit(main())
