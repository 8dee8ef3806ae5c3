"""The audit log: who switched releases, exported, erased or read a user's data, in an order that cannot be changed unnoticed."""
