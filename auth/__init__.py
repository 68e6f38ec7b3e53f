"""Who is calling: users, service clients and API keys, the tokens they get, and those of outside issuers.

Read `verifier` first: a bearer token of any kind → a `Principal`. Then `tokens`, which issues and verifies ours.

- `errors`         everything raised on purpose, with the status and words it is answered with
- `principal`, `rights`  a verified caller, roles and scopes; who may give which right to whom
- `authorization`  the bearer token of a request's header
- `signing`        the ES256 keys, from a folder or a setting, their rotation, and their public set
- `tokens`, `claims`  JWTs: signature, then content
- `issuers`, `jwks`  tokens of outside issuers, and their keys
- `credentials`, `keys`  how API keys look and what is stored of them; the table, and the check of one
- `revocations`, `upkeep`  what has been taken back, and how every worker hears of it
- `password_rule`, `passwords`  which passwords may be chosen; argon2 hashing, away from the event loop
- `database`, `tables`, `schema`, `migrations`  an engine for SQLite or PostgreSQL, the tables and their revisions
- `store`, `tenants`, `clients`, `sessions`, `audit`  users, tenants, service clients, logins, and who changed what
- `administration` what administrators and operators do; the admin API and the commands go through it
- `login`, `form`, `throttle`, `grants`, `revoker`  a token request: its body, how often, what it gives, how it is taken back
- `metadata`, `routes`  `/auth/token`, `/auth/revoke` and `/.well-known`; `routes` alone knows the web framework
- `new_file`       files that several starting processes may make at once
- `commands`       `users | tenants | keys | clients | signing-keys | audit`

Importing this package is cheap: the modules that need cryptography or a database are imported by those who use them.
"""

from auth.authorization import bearer
from auth.principal import Principal

__all__ = ["Principal", "bearer"]
