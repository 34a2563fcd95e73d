//! Ranges and transactions: our plain data to etcd's messages and back.
