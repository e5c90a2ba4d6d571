package loki

import (
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/prometheus/common/model"
)

var errKey = errors.New("not a label set")

// parseLabels reads {name="value",...} with values as JSON strings.
func parseLabels(key string) (model.LabelSet, error) {
	rest, ok := strings.CutPrefix(key, "{")
	if !ok {
		return nil, errKey
	}
	set := model.LabelSet{}
	for rest != "}" {
		name, value, ok := strings.Cut(rest, "=")
		if !ok || !model.LegacyValidation.IsValidLabelName(name) || strings.HasPrefix(name, "__") {
			return nil, errKey
		}
		d := json.NewDecoder(strings.NewReader(value))
		var v string
		if err := d.Decode(&v); err != nil && !errors.Is(err, io.EOF) {
			return nil, errKey
		}
		set[model.LabelName(name)] = model.LabelValue(v)
		rest = value[d.InputOffset():]
		if next, ok := strings.CutPrefix(rest, ","); ok {
			rest = next
		} else if rest != "}" {
			return nil, errKey
		}
	}
	if len(set) == 0 {
		return nil, errKey
	}
	return set, nil
}
