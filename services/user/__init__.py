"""User: who may buy, and how to address them.

We own accounts: e-mail address, username, profile, standing, roles and the hash of a password.

We promise that one address and one username, whatever the case of their letters, belong to at most one
account that has not ended; that a password is never kept, logged or told; that a shop which has an
administrator keeps one; and that every change of an account is told.

We publish UserRegistered, UserActivated, UserUpdated, UserSuspended, UserReinstated, UserDeactivated,
UserRoleGranted and UserRoleRevoked, keyed by user. We listen to nobody.
"""
