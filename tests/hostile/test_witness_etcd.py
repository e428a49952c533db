"""The attacks of group relay."""
from harness import main

main("witness_etcd")
