// The dashboards against Grafana's published schema: check FILE.... Every field must be one that Grafana knows, of the
// type that it expects, in the dashboard itself and in the options and queries of its panels. Prints what is not.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// What a part of a dashboard is read into.
type strict interface{ UnmarshalJSONStrict([]byte) error }

// What a kind of panels reads: its options, and what it adds to how fields are shown.
type kind struct {
	options func() strict
	fields  func() strict
}

// The kinds of panels that we make; another one is an error until it stands here.
var kinds = map[string]kind{
	"heatmap":    {func() strict { return &heatmap.Options{} }, func() strict { return &heatmap.FieldConfig{} }},
	"stat":       {func() strict { return &stat.Options{} }, nil},
	"timeseries": {func() strict { return &timeseries.Options{} }, func() strict { return &timeseries.FieldConfig{} }},
}

// The parts of a panel that its schema leaves to its kind, or reads without strictness.
type panel struct {
	Title       string
	Type        string
	Options     json.RawMessage
	FieldConfig json.RawMessage
	Targets     []json.RawMessage
}

// What a panel's kind adds to its fields.
func (panel panel) custom() json.RawMessage {
	var config struct {
		Defaults struct{ Custom json.RawMessage }
	}
	// Another type in its place is an error that the strict reading reports.
	_ = json.Unmarshal(panel.FieldConfig, &config)
	return config.Defaults.Custom
}

// What is wrong with a file, with its place.
func problems(text []byte) []error {
	var found []error
	note := func(place string, err error) {
		// Some of the schema's readers give an empty list of errors where there is none.
		if list := (cog.BuildErrors{}); errors.As(err, &list) && len(list) == 0 {
			return
		}
		if err != nil {
			found = append(found, fmt.Errorf("%s: %w", place, err))
		}
	}
	var ours struct{ Panels []panel }
	if err := json.Unmarshal(text, &ours); err != nil {
		return []error{err}
	}
	note("dashboard", new(dashboard.Dashboard).UnmarshalJSONStrict(text))
	if len(ours.Panels) == 0 {
		note("dashboard", fmt.Errorf("has no panels"))
	}
	for _, panel := range ours.Panels {
		place := "panel " + panel.Title
		kind, known := kinds[panel.Type]
		if !known {
			note(place, fmt.Errorf("%s is a kind that this check does not know", panel.Type))
			continue
		}
		note(place+", options", kind.options().UnmarshalJSONStrict(panel.Options))
		note(place+", fields", new(dashboard.FieldConfigSource).UnmarshalJSONStrict(panel.FieldConfig))
		if custom := panel.custom(); custom != nil && kind.fields == nil {
			note(place+", fields", fmt.Errorf("%s adds nothing to them, and here is something", panel.Type))
		} else if custom != nil {
			note(place+", fields", kind.fields().UnmarshalJSONStrict(custom))
		}
		for _, target := range panel.Targets {
			note(place+", query", new(prometheus.Dataquery).UnmarshalJSONStrict(target))
		}
	}
	return found
}

func main() {
	failed := len(os.Args) < 2
	for _, path := range os.Args[1:] {
		text, err := os.ReadFile(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			failed = true
			continue
		}
		for _, problem := range problems(text) {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, problem)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}
