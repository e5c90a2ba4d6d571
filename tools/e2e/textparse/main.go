// Textparse reads a metrics page as others read it, and writes one line for everything that the page says: each
// TYPE, HELP, UNIT, sample, exemplar and native histogram, with the labels in order and the value in one spelling. Two
// pages say the same if their lines are the same, in any order.
//
// It is a module of its own, for its dependency on all of Prometheus.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "textparse:", err)
		os.Exit(1)
	}
}

// run reads a page from in and writes its lines to out.
func run(args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("textparse", flag.ContinueOnError)
	contentType := flags.String("type", "text/plain; version=0.0.4", "Content-Type of the page")
	strict := flags.Bool("expfmt", false, "parse with prometheus/common, which wants each family once and in one piece")
	var add pairs
	flags.Var(&add, "label", "add a label name=value to every series, as Prometheus does with honor_labels: false")
	if err := flags.Parse(args); err != nil {
		return err
	}
	page, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if *strict {
		err = families(&b, page, *contentType, add)
	} else {
		err = entries(&b, page, *contentType, add)
	}
	if err != nil {
		return err
	}
	_, err = b.WriteTo(out)
	return err
}

// pairs are labels to add.
type pairs []labels.Label

// String implements flag.Value.
func (p *pairs) String() string { return fmt.Sprint(*p) }

// Set implements flag.Value.
func (p *pairs) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		return errors.New("write name=value")
	}
	*p = append(*p, labels.Label{Name: name, Value: value})
	return nil
}

// rename returns the name that a label of the page has beside those that are added.
func (p pairs) rename(name string, taken func(string) bool) string {
	if !slices.ContainsFunc(p, func(l labels.Label) bool { return l.Name == name }) {
		return name
	}
	for name = "exported_" + name; taken(name); {
		name = "exported_" + name
	}
	return name
}

// to returns the labels of a series with p.
func (p pairs) to(ls labels.Labels) labels.Labels {
	b := labels.NewBuilder(labels.EmptyLabels())
	ls.Range(func(l labels.Label) { b.Set(p.rename(l.Name, ls.Has), l.Value) })
	for _, l := range p {
		b.Set(l.Name, l.Value)
	}
	return b.Labels()
}

// entries reads a page with the parser of Prometheus' scraper.
func entries(b *bytes.Buffer, page []byte, contentType string, add pairs) error {
	p, err := textparse.New(page, contentType, labels.NewSymbolTable(), textparse.ParserOptions{KeepClassicOnClassicAndNativeHistograms: true})
	if err != nil {
		return err
	}
	for {
		e, err := p.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		entry(b, p, e, add)
	}
}

func entry(b *bytes.Buffer, p textparse.Parser, e textparse.Entry, add pairs) {
	switch e {
	case textparse.EntryType:
		name, typ := p.Type()
		fmt.Fprintf(b, "TYPE %q %s\n", name, typ)
	case textparse.EntryHelp:
		name, help := p.Help()
		fmt.Fprintf(b, "HELP %q %q\n", name, help)
	case textparse.EntryUnit:
		name, unit := p.Unit()
		fmt.Fprintf(b, "UNIT %q %s\n", name, unit)
	case textparse.EntrySeries:
		_, ts, v := p.Series()
		sample(b, p, add, ts, float(v))
	case textparse.EntryHistogram:
		_, ts, h, fh := p.Histogram()
		sample(b, p, add, ts, fmt.Sprint(h, fh))
	}
}

// sample writes a sample and its exemplars.
func sample(b *bytes.Buffer, p textparse.Parser, add pairs, ts *int64, value string) {
	var ls labels.Labels
	p.Labels(&ls)
	ls = add.to(ls)
	fmt.Fprintf(b, "SAMPLE %s %s %s\n", ls, value, stamp(ts))
	if pp, ok := p.(*textparse.ProtobufParser); ok { // in OpenMetrics it is a sample of its own
		fmt.Fprintf(b, "START %s %d\n", ls, pp.StartTimestamp())
	}
	for {
		var ex exemplar.Exemplar
		if !p.Exemplar(&ex) {
			return
		}
		fmt.Fprintf(b, "EXEMPLAR %s %s %s %d %v\n", ls, ex.Labels, float(ex.Value), ex.Ts, ex.HasTs)
	}
}

func float(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func stamp(ts *int64) string {
	if ts == nil {
		return "-"
	}
	return strconv.FormatInt(*ts, 10)
}

// families reads a page with prometheus/common.
func families(b *bytes.Buffer, page []byte, contentType string, add pairs) error {
	format := expfmt.ResponseFormat(map[string][]string{"Content-Type": {contentType}})
	if format.FormatType() != expfmt.TypeProtoDelim {
		// The decoder forgets an error on the last line.
		parser := expfmt.NewTextParser(model.UTF8Validation)
		all, err := parser.TextToMetricFamilies(bytes.NewReader(page))
		for _, mf := range all {
			family(b, mf, add)
		}
		return err
	}
	dec := expfmt.NewDecoder(bytes.NewReader(page), format)
	seen := map[string]bool{}
	for {
		var mf dto.MetricFamily
		err := dec.Decode(&mf)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case seen[mf.GetName()]:
			return fmt.Errorf("family %s twice", mf.GetName())
		}
		seen[mf.GetName()] = true
		family(b, &mf, add)
	}
}

func family(b *bytes.Buffer, mf *dto.MetricFamily, add pairs) {
	fmt.Fprintf(b, "TYPE %q %s\nHELP %q %q\nUNIT %q %q\n", mf.GetName(), mf.GetType(), mf.GetName(), mf.GetHelp(), mf.GetName(), mf.GetUnit())
	for _, m := range mf.Metric {
		taken := func(name string) bool {
			return slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == name })
		}
		var ls []*dto.LabelPair
		for _, l := range m.Label {
			name := add.rename(l.GetName(), taken)
			ls = append(ls, &dto.LabelPair{Name: &name, Value: l.Value})
		}
		for _, l := range add {
			ls = append(ls, &dto.LabelPair{Name: &l.Name, Value: &l.Value})
		}
		slices.SortFunc(ls, func(a, c *dto.LabelPair) int { return strings.Compare(a.GetName(), c.GetName()) })
		m.Label = ls
		fmt.Fprintf(b, "SAMPLE %q %s\n", mf.GetName(), m)
	}
}
