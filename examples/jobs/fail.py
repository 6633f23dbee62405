"""A task that fails: another exit status than 0, and the reason on stderr.

orchestrator worker --exec failing_task='python3 fail.py'
"""

import sys

sys.exit("Intentional failure for testing")
