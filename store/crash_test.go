package store

const crashChildEnv = "RADNODE_STORE_CRASH_CHILD"

func crashChild(string) {}
