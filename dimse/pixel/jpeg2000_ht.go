package pixel

type htDecoder struct{}

func (d *blockDecoder) decodeHT(block *codeBlock, planes int, style byte) (bool, error) {
	return false, unsupported("ht")
}
