"""The store's promises, kept by SQLite."""
import unittest

from store_promises import Promises, StoreCase


class Sqlite(Promises, StoreCase):
    @property
    def store(self):
        return f"sqlite:{self.dir}/store.db"


if __name__ == "__main__":
    unittest.main()
