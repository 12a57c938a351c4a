"""What any server needs and nothing about commerce: lifecycle, onions, storage, events.

Imports the kernel and libraries.
"""
