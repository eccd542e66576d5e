package pipeline

func (w *writing) pages(set *Set) error { return nil }
