"""Load from users who log in and chat in French, and the service levels that decide the exit code.

    python -m loadtests --headless --host http://127.0.0.1:8000 -u 20 --ramp 30 --hold 120

Read `locustfile.py` first: it puts the parts together. `user` is what one user does, `callers` who asks, `arrivals` when,
`profile` how much of it, `answer` what is measured of one answer, `levels` what has to hold. The product never imports this
package: it runs under gevent.
"""
