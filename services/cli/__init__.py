"""The `bodega` command, a file per command; README.md lists them.

`up` runs the shop: `shop.Shop` says which programs that is, `supervisor.Supervisor` keeps any programs alive.
Both are made for tests as well as for the command.
"""
