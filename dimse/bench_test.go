package dimse

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
)

// BenchmarkStore is objects of a CT slice's size through one server that keeps nothing, without and with TLS. [TestManyAssociations] and
// [TestLargeObject] prove that the bytes arrive. -cpu has no influence; associations run side by side.
func BenchmarkStore(b *testing.B) {
	for _, size := range []int{33 << 10, 525 << 10} {
		for i, associations := range []int{1, 16, 1, 16} {
			secure := i > 1
			b.Run(fmt.Sprintf("%dKB/%d%s", size>>10, associations, map[bool]string{true: "/TLS"}[secure]), func(b *testing.B) {
				server, options := &Server{Storage: &memory{put: func(_ context.Context, _ dicom.FileMeta, body io.Reader) error {
					_, err := io.Copy(io.Discard, body)
					return err
				}}}, ctProposal
				var addr string
				if secure {
					ca := newAuthority(b, "hospital")
					addr, _, _ = serveTLS(b, server, ca.tls(leaf("radnode")).Server(true))
					options.TLS = ca.tls(leaf("ct1")).Client("")
				} else {
					addr, _, _ = serve(b, server)
				}
				ctx, data := context.Background(), make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				work := make(chan struct{})
				var wg sync.WaitGroup
				for range associations {
					c, err := Dial(ctx, Peer{"RADNODE", addr}, options)
					if err != nil {
						b.Fatal(err)
					}
					wg.Go(func() {
						defer c.Abort()
						for range work {
							if status, err := c.Store(ctx, ctMeta("1.2.3"), bytes.NewReader(data)); err != nil || status.Code != StatusSuccess {
								b.Error(status, err)
							}
						}
					})
				}
				b.ResetTimer()
				for range b.N {
					work <- struct{}{}
				}
				close(work)
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "objects/s")
			})
		}
	}
}

// BenchmarkEcho is the round trip of a C-ECHO.
func BenchmarkEcho(b *testing.B) {
	addr, _, _ := serve(b, &Server{Storage: &memory{}})
	c, err := Dial(context.Background(), Peer{"RADNODE", addr}, DialOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Abort()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Echo(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
