package pixel

import "encoding/binary"

// The RLE header: PS3.5 G.5.
const (
	rleHeader   = 64
	rleSegments = 15
)

// decodeRLE reads RLE Lossless, PS3.5 Annex G. Every byte of a pixel has a segment, the most significant one first (G.2). A pixel
// of one bit takes a byte there too; writers that pack eight into a byte, as native pixel data has them, are understood, as
// the length tells them apart.
func decodeRLE(stream []byte, rows, columns int, out []int32) (precision, error) {
	if len(stream) < rleHeader {
		return precision{}, malformed("the RLE header has %d bytes of %d: send the image again", len(stream), rleHeader)
	}
	n := int(binary.LittleEndian.Uint32(stream))
	switch {
	case n == 3 || n > 4 && n <= rleSegments:
		return precision{}, unsupported("the RLE header has %d segments: only 1, 2 and 4 are read, no colour", n)
	case n != 1 && n != 2 && n != 4:
		return precision{}, malformed("the RLE header has %d segments: send the image again", n)
	}
	var bounds [5]uint32
	for i := range n {
		bounds[i] = binary.LittleEndian.Uint32(stream[4+4*i:])
	}
	bounds[n] = uint32(min(uint64(len(stream)), 1<<32-1))
	for i := range n {
		if bounds[i] < rleHeader || bounds[i] >= bounds[i+1] {
			return precision{}, malformed("RLE segment %d begins at byte %d of the frame and ends at %d: send the image again", i+1, bounds[i], bounds[i+1])
		}
	}
	for i := range n {
		segment := stream[bounds[i]:bounds[i+1]]
		done, err := rleSegment(segment, uint(8*(n-1-i)), i > 0, out)
		if packed := (len(out) + 7) / 8; err == nil && n == 1 && done == packed && done < len(out) {
			for k := len(out) - 1; k >= 0; k-- {
				out[k] = out[k>>3] >> (k & 7) & 1
			}
			return precision{bits: 1}, nil
		}
		if err == nil && done < len(out) {
			err = malformed("has %d bytes of %d: it is truncated, send the image again", done, len(out))
		}
		if err != nil {
			return precision{}, malformed("RLE segment %d %v", i+1, err)
		}
	}
	return precision{bits: 8 * n}, nil
}

// rleSegment undoes the runs of PS3.5 G.3.1 and puts byte after byte into the samples at a bit, over what is there or beside
// it. It returns how many there were. Runs may go on over the end of a row, which writers must not do (G.3), and readers need
// not mind.
func rleSegment(in []byte, shift uint, beside bool, out []int32) (int, error) {
	done, at := 0, 0
	for done < len(out) && at+1 < len(in) {
		code := int(int8(in[at]))
		if code == -128 { // nothing
			at++
			continue
		}
		length := max(code, -code) + 1
		if length > len(out)-done {
			return done, malformed("has a run of %d bytes where %d are left to fill, at byte %d: Rows (0028,0010) or Columns (0028,0011) is wrong", length, len(out)-done, at)
		}
		run := out[done : done+length]
		done += length
		at++
		if code < 0 {
			v := int32(uint32(in[at]) << shift)
			at++
			if beside {
				for k := range run {
					run[k] |= v
				}
			} else {
				for k := range run {
					run[k] = v
				}
			}
			continue
		}
		if length > len(in)-at {
			return done, malformed("has a run of %d bytes where %d are left, at byte %d: it is truncated, send the image again", length, len(in)-at, at-1)
		}
		from := in[at : at+length]
		at += length
		if beside {
			for k, b := range from {
				run[k] |= int32(uint32(b) << shift)
			}
		} else {
			for k, b := range from {
				run[k] = int32(uint32(b) << shift)
			}
		}
	}
	for k, b := range in[at:] {
		if done == len(out) && b != 0 && b != 0x80 { // G.3: a zero makes the length even
			return done, malformed("goes on behind its last pixel, at byte %d: Rows (0028,0010) or Columns (0028,0011) is wrong", at+k)
		}
	}
	return done, nil
}
