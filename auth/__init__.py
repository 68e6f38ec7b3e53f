"""Who is calling: users, their passwords, and the tokens they get for them.

Read `tokens` first: it issues and verifies the access tokens everything else is about.

- `errors`         everything raised on purpose, with the status and words it is answered with
- `principal`      a verified caller and the scopes there are
- `authorization`  the bearer token of a request's header
- `signing`        the ES256 keys, from a folder or a setting, and their public set
- `tokens`, `claims`  JWTs: signature, then content
- `password_rule`, `passwords`  which passwords may be chosen; argon2 hashing, away from the event loop
- `database`, `store`  an engine for SQLite or PostgreSQL; the table of users
- `new_file`       files that several starting processes may make at once
- `login`          user name and password → user
- `form`, `throttle`  the token request's body; how often an address may send one
- `routes`         `POST /auth/token` and `GET /.well-known/jwks.json`; the only module that knows the web framework
- `commands`       `users add | list | disable | password`

Importing this package is cheap: the modules that need cryptography or a database are imported by those who use them.
"""

from auth.authorization import bearer
from auth.principal import Principal

__all__ = ["Principal", "bearer"]
