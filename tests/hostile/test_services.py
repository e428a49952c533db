"""The attacks of group services."""
from harness import main

main("services")
