"""User: who may buy, how to address them, and who is signed in.

We own accounts: e-mail address, username, profile, standing, roles and the hash of a password; sessions; API
keys; and the keys that sign access tokens.

We promise that one address and one username, whatever the case of their letters, belong to at most one
account that has not ended; that a password is never kept, logged or told; that a shop which has an
administrator keeps one; that every change of an account is told; that only active accounts are signed in;
that no token or API key is kept as it was given; and that nobody learns by signing in whether an address has
an account.

We publish UserRegistered, UserActivated, UserUpdated, UserSuspended, UserReinstated, UserDeactivated,
UserRoleGranted, UserRoleRevoked and UserSignedIn, keyed by user; ApiKeyCreated and ApiKeyRevoked, keyed by
API key. We listen to nobody.
"""
