r"""The stack in a box: gateway, router, prefill pool and decode pool with known truth per layer.

client -> gateway -> router -> prefill pool          one process each, real HTTP
                           \-> decode pool -> back through router and gateway, one chunk per token
"""
