"""The attacks of group identity."""
from harness import main

main("identity")
