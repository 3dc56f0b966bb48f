"""Ray Tune's Searcher, Scheduler, Callback and Trainable as thin faces of one `Study`.

Ray is a stateless executor here: one Ray trial is one attempt, nothing of Ray's is ever restored,
and Ray retries nothing by itself. What its hooks do (ray 2.60, read in its source):

* `suggest` is asked until it returns None; None with nothing running would block the loop, so the
  end is said with `FINISHED`.
* A result without `done` goes to the scheduler, before the searcher; one with `done` goes to the
  searcher's `on_trial_complete` alone.
* A worker's death reaches the searcher first and then the callback, which knows the error.
* The callback's step hooks run at least every 0.1 s: there hung attempts are killed, and there the
  journal is committed.
* `ray.kill` reaches a worker that spins in C at once and one stopped with SIGSTOP within 5 s: the
  node sends SIGKILL to who does not answer.

The only package that imports ray:

| file | what is there |
|---|---|
| `connection.py` | a cluster, ours or another's: connected to, asked for its places, its nodes |
| `driving.py` | a study run on it: Ray's `Tuner` as it is used here |
| `hooks.py` | searcher, scheduler, callback: Ray's loop calls them, they call the `desk` |
| `actors.py` | which of Ray's actors carries which attempt |
| `trainable.py` | what runs in an actor: attempts, one after another or several together |
| `deaths.py` | what a worker's end was, in our words |
| `mended.py` | two parts of Tune that are used otherwise than they are |
"""

from search.execution.ray_tune.connection import connected, everywhere, slots
from search.execution.ray_tune.driving import drive
from search.execution.ray_tune.trainable import Attempt

__all__ = ["Attempt", "connected", "drive", "everywhere", "slots"]
