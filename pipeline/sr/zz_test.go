package sr

import ("testing";"os")

func TestZZDump(t *testing.T) {
	dir := os.Getenv("ZZ"); if dir=="" {t.Skip()}
	for n, d := range variants(t) { os.WriteFile(dir+"/"+n+".dcm", file(t,d), 0o644) }
}
