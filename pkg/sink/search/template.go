package search

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

func templateName(index string) string { return "metrics-server-" + index }

// install puts the template unless there is one. An error means to try again later; a store that
// does not want it is left alone, with a line in the log.
func (b *backend) install(ctx context.Context) error {
	const limit = 1 << 20
	status, _, err := b.do(ctx, http.MethodGet, b.templateURL, nil, limit)
	if err != nil {
		return fmt.Errorf("look for the index template: %w", err)
	}
	if retriable(status) {
		return fmt.Errorf("look for the index template: status %d: %s", status, excerpt(b.answer))
	}
	if status == http.StatusOK {
		return nil
	}
	body, err := json.Marshal(b.config.template())
	if err != nil {
		return fmt.Errorf("encode the index template: %w", err)
	}
	status, _, err = b.do(ctx, http.MethodPut, b.templateURL, body, limit)
	if err != nil {
		return fmt.Errorf("install the index template: %w", err)
	}
	if retriable(status) {
		return fmt.Errorf("install the index template: status %d: %s", status, excerpt(b.answer))
	}
	if status/100 != 2 && b.config.Sink.Log != nil {
		b.config.Sink.Log.Warn("the store does not take the index template; going on without",
			"status", status, "answer", excerpt(b.answer))
	}
	return nil
}

type object map[string]any

func (c Config) template() object {
	name := c.Index
	if c.Pattern != "" {
		name = c.Pattern
	}
	if !c.DataStream {
		name += "-*"
	}
	keyword := object{"type": "keyword", "ignore_above": 1024}
	properties := object{
		"timestamp": object{"type": "date"},
		"name":      keyword, "op": keyword, "index": keyword, "id": keyword,
		"value": object{"type": "double"},
		"help":  object{"type": "text"},
	}
	mappings := object{"properties": properties}
	if c.Labels == LabelsKeyword {
		mappings["dynamic_templates"] = []object{{"labels": object{"path_match": "labels.*", "mapping": keyword}}}
	} else {
		properties["labels"] = object{"type": c.Labels}
	}
	t := object{
		"index_patterns": []string{name},
		"priority":       150, // above the stores' own
		"template": object{
			"settings": object{"number_of_shards": c.Shards},
			"mappings": mappings,
		},
	}
	if c.DataStream {
		properties["@timestamp"] = object{"type": "date"}
		t["data_stream"] = object{}
	}
	return t
}
