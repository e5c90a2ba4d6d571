// Package prommerge merges the pages of many Prometheus targets into one.
//
// A page is never decoded. One pass checks every line by the grammar that Prometheus itself accepts and copies it
// with the labels of its target spliced in; families are then put together across targets:
//
//	target a ──▶ scan, splice ──▶ part a ─┐  segs: (family, bytes)
//	target b ──▶ scan, splice ──▶ part b ─┼──▶ group: family by family, ──▶ write
//	target c ──▶ bad ─────────▶ dropped   ┘     in it target by target
//
// Values, timestamps, exemplars and escapes leave as they came, byte for byte. A target whose page Prometheus would
// refuse has no part in the merged page at all, so that one bad target never costs the others.
//
// Formats are text 0.0.4 and 1.0.0, OpenMetrics 0.0.1 and 1.0.0, and delimited protobuf, which is spliced at wire
// level. All targets are asked for the format that the scraper likes best. If their answers differ, the page
// becomes text: exemplars and native histograms, which text cannot say, are left out then.
//
// Specifications: prometheus.io/docs/instrumenting/exposition_formats, …/content_negotiation,
// prometheus.io/docs/specs/om/open_metrics_spec, metrics.proto of prometheus/client_model.
package prommerge
