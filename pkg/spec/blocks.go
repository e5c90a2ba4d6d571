package spec

import "reflect"

// The kinds that are made of others. The field says of which.
var (
	block = &kind{name: "map", read: readBlock}
	list  = &kind{name: "list", many: true, read: readList}
)

// readBlock reads a map with known keys into a struct.
func readBlock(d *decoder, a *at, f *field, to reflect.Value) bool {
	return d.readMap(a, f.in, to)
}

// readList reads a list. One with an element that is wrong is left out.
func readList(d *decoder, a *at, f *field, to reflect.Value) bool {
	elements, ok := d.elements(a, "a list")
	if !ok {
		return false
	}
	one := *f
	one.kind = f.of
	all := reflect.MakeSlice(to.Type(), len(elements), len(elements))
	for i, e := range elements {
		ok = one.kind.read(d, e, &one, all.Index(i)) && ok
	}
	if ok && f.some && len(elements) == 0 {
		d.errorf(a, "", "is an empty list, wants at least one element")
		return false
	}
	if ok {
		to.Set(all)
	}
	return ok
}
