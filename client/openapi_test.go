package client_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"backstop/client"
	"backstop/docs"
	"backstop/lib/fault"
)

func document(t *testing.T) *openapi3.T {
	t.Helper()
	d, err := openapi3.NewLoader().LoadFromData(docs.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	d.Servers = nil // any host will do
	return d
}

// shape is a type and the schemas that it stands for.
type shape struct {
	schemas []string
	goType  any
}

var shapes = []shape{
	{[]string{"Problem"}, client.ProblemError{}},
	{[]string{"Send"}, client.SendRequest{}},
	{[]string{"SendResult"}, client.SendAnswer{}},
	{[]string{"Delivery"}, client.Delivery{}},
	{[]string{"DeliveryEvent"}, client.DeliveryEvent{}},
	{[]string{"DeliveryNext"}, client.DeliveryNext{}},
	{[]string{"Cancellation"}, client.Cancellation{}},
	{[]string{"Sinks"}, client.Sinks{}},
	{[]string{"Sink"}, client.Sink{}},
	{[]string{"Receiver"}, client.Receiver{}},
	{[]string{"Item", "ItemSummary"}, client.Item{}}, // one type for both
	{[]string{"ReplayRecord"}, client.ReplayRecord{}},
	{[]string{"Of"}, client.Of{}},
	{[]string{"ItemPage"}, client.ItemPage{}},
	{[]string{"Count"}, client.Count{}},
	{[]string{"Groups"}, client.GroupPage{}},
	{[]string{"Group"}, client.Group{}},
	{[]string{"GroupNote"}, client.GroupNote{}},
	{[]string{"NoteRequest"}, client.NoteRequest{}},
	{[]string{"Histogram"}, client.Histogram{}},
	{[]string{"Series"}, client.Series{}},
	{[]string{"ReplayRequest"}, client.ReplayOptions{}},
	{[]string{"ReplayResult"}, client.ReplayResult{}},
	{[]string{"OperationRequest"}, struct {
		client.OperationRequest
		DryRun bool `json:"dry_run"` // which method is called says it
	}{}},
	{[]string{"DryRun"}, client.DryRun{}},
	{[]string{"Expect"}, client.Expect{}},
	{[]string{"PreviewGroup"}, client.PreviewGroup{}},
	{[]string{"LastTried"}, client.LastTried{}},
	{[]string{"Operation"}, client.Operation{}},
	{[]string{"OperationSink"}, client.OperationSink{}},
	{[]string{"RestoreCounts"}, client.RestoreCounts{}},
	{[]string{"AuditCounts"}, client.AuditCounts{}},
	{[]string{"EraseCounts"}, client.EraseCounts{}},
	{[]string{"Operations"}, client.Operations{}},
	{[]string{"ImportResult"}, client.ImportResult{}},
	{[]string{"ImportLine"}, client.ImportLine{}},
	{[]string{"Filter"}, struct{ filterOfOperations }{}},
}

// filterOfOperations is client.Filter without State, which is a parameter of lists alone.
type filterOfOperations struct {
	client.Filter
	State struct{} `json:"-"`
}

// Whatever the API says, the types hold; and they claim nothing that it does not say.
func TestTheTypesAreTheDocuments(t *testing.T) {
	t.Parallel()
	d := document(t)
	known := map[string]bool{"GatewayMessage": true} // an error's text: read by problemOf
	for _, s := range shapes {
		properties := openapi3.Schemas{}
		for _, name := range s.schemas {
			known[name] = true
			schema := d.Components.Schemas[name]
			if schema == nil {
				t.Errorf("there is no schema %s any more", name)
				continue
			}
			for field, p := range schema.Value.Properties {
				if field == "message" && properties[field] != nil { // Item's and ItemSummary's
					both := *p.Value
					both.Properties = maps.Clone(p.Value.Properties)
					maps.Copy(both.Properties, properties[field].Value.Properties)
					p = &openapi3.SchemaRef{Value: &both}
				}
				properties[field] = p
			}
		}
		same(t, strings.Join(s.schemas, "+"), properties, reflect.TypeOf(s.goType))
	}
	for name, schema := range d.Components.Schemas {
		if len(schema.Value.Properties) > 0 && !known[name] {
			t.Errorf("schema %s has no type in the client", name)
		}
	}
}

// fields returns a struct's JSON fields with their types.
func fields(typ reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(typ) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		if shadow, _ := typ.FieldByName(f.Name); shadow.Tag.Get("json") == "-" {
			continue
		}
		out[name] = f.Type
	}
	return out
}

func same(t *testing.T, where string, properties openapi3.Schemas, typ reflect.Type) {
	t.Helper()
	have := fields(typ)
	for name, p := range properties {
		f, ok := have[name]
		if !ok {
			t.Errorf("%s.%s has no field in %s", where, name, typ)
			continue
		}
		if err := fits(t, where+"."+name, p.Value, f); err != nil {
			t.Errorf("%s.%s: %v", where, name, err)
		}
	}
	for name := range have {
		if properties[name] == nil {
			t.Errorf("%s: the document has no %s, the type %s has", where, name, typ)
		}
	}
}

// fits compares a property with the Go type for it.
func fits(t *testing.T, where string, s *openapi3.Schema, f reflect.Type) error {
	t.Helper()
	for f.Kind() == reflect.Pointer {
		f = f.Elem()
	}
	for _, alternative := range s.AnyOf {
		if !alternative.Value.Type.Is("null") {
			s = alternative.Value
		}
	}
	is := func(kind string) bool { return s.Type.Includes(kind) }
	switch {
	case s.Type == nil || len(*s.Type) == 0 || f.Kind() == reflect.Interface || f == reflect.TypeFor[json.RawMessage]():
		if f.Kind() == reflect.Interface || f == reflect.TypeFor[json.RawMessage]() {
			return nil
		}
	case is("string") && s.Format == "date-time":
		if f == reflect.TypeFor[time.Time]() {
			return nil
		}
	case is("string"):
		if f.Kind() == reflect.String {
			return nil
		}
	case is("integer"):
		if f.Kind() == reflect.Int || f.Kind() == reflect.Int64 {
			return nil
		}
	case is("boolean"):
		if f.Kind() == reflect.Bool {
			return nil
		}
	case is("array"):
		if f.Kind() == reflect.Slice {
			return fits(t, where, s.Items.Value, f.Elem())
		}
	case is("object") && len(s.Properties) > 0:
		if f.Kind() == reflect.Struct && f.PkgPath() == reflect.TypeFor[client.Client]().PkgPath() {
			if !slices.ContainsFunc(shapes, func(x shape) bool { return reflect.TypeOf(x.goType) == f }) && f != reflect.TypeFor[client.Filter]() {
				same(t, where, s.Properties, f)
			}
			return nil
		}
	case is("object"):
		if f.Kind() == reflect.Map && f.Key().Kind() == reflect.String {
			return fits(t, where, s.AdditionalProperties.Schema.Value, f.Elem())
		}
	}
	return fmt.Errorf("%v %s in the document, %s here", s.Type, s.Format, f)
}

// The words are the document's too.
func TestTheWordsAreTheDocuments(t *testing.T) {
	t.Parallel()
	d := document(t)
	enum := func(schema string, property string) []string {
		s := d.Components.Schemas[schema].Value
		if property != "" {
			s = s.Properties[property].Value
		}
		var out []string
		for _, v := range s.Enum {
			if v != "" {
				out = append(out, fmt.Sprint(v))
			}
		}
		return out
	}
	for _, c := range []struct {
		schema, property string
		want             []string
	}{
		{"Reason", "", texts(client.Reasons)},
		{"State", "", texts(client.States)},
		{"SinkState", "", texts(client.SinkStates)},
		{"Receiver", "state", texts([]client.SinkState{client.SinkFailing, client.SinkOpen, client.SinkHeld})},
		{"SendResult", "status", texts([]client.DeliveryStatus{client.DeliveryDelivered, client.DeliveryDeadLettered, client.DeliveryAccepted, client.DeliveryDiscarded, client.DeliveryCanceled})},
		{"Delivery", "status", texts([]client.DeliveryStatus{
			client.DeliveryAccepting, client.DeliveryAccepted, client.DeliveryInProgress, client.DeliveryDelivered,
			client.DeliveryDeadLettered, client.DeliveryExpired, client.DeliveryDiscarded, client.DeliveryCanceled,
		})},
		{"DeliveryNext", "event", texts([]client.NextEvent{client.NextAttempt, client.NextReplay, client.NextOperator, client.NextExpiry, client.NextReturn})},
		{"ReplayRequest", "on_success", texts([]client.OnSuccess{client.OnSuccessDiscard, client.OnSuccessKeep})},
		{"ReplayResult", "status", texts([]client.ReplayStatus{client.ReplayDelivered, client.ReplayFailed, client.ReplayParked})},
		{"OperationRequest", "action", texts([]client.Action{client.ActionReplay, client.ActionDiscard, client.ActionRestore, client.ActionAudit, client.ActionErase})},
		{"Operation", "status", texts([]client.OperationStatus{client.OperationQueued, client.OperationRunning, client.OperationStopped, client.OperationCompleted, client.OperationCanceled, client.OperationFailed})},
		{"ImportLine", "status", texts([]client.ImportStatus{client.ImportStored, client.ImportExists, client.ImportSkipped, client.ImportRejected, client.ImportFailed})},
	} {
		if got := enum(c.schema, c.property); !slices.Equal(got, c.want) {
			t.Errorf("%s.%s: %v in the document, %v here", c.schema, c.property, got, c.want)
		}
	}
}

func texts[S ~string](all []S) []string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = string(s)
	}
	return out
}

// calls are the methods by the operation that they call, with all that they can say.
var calls = map[string]func(context.Context, *client.Client) error{
	"sendMessage": func(ctx context.Context, c *client.Client) error {
		_, err := c.Send(ctx, client.SendRequest{Sink: "a", Async: true})
		return err
	},
	"getDelivery":    func(ctx context.Context, c *client.Client) error { _, err := c.Delivery(ctx, "a", "d"); return err },
	"cancelDelivery": func(ctx context.Context, c *client.Client) error { _, err := c.Cancel(ctx, "a", "d"); return err },
	"listSinks":      func(ctx context.Context, c *client.Client) error { _, err := c.Sinks(ctx); return err },
	"pauseSink":      func(ctx context.Context, c *client.Client) error { _, err := c.PauseSink(ctx, "a"); return err },
	"resumeSink":     func(ctx context.Context, c *client.Client) error { _, err := c.ResumeSink(ctx, "a"); return err },
	"listItems": func(ctx context.Context, c *client.Client) error {
		_, err := c.ItemsPage(ctx, everyFilter, 5, "c")
		return err
	},
	"countItems": func(ctx context.Context, c *client.Client) error { _, err := c.Count(ctx, "a"); return err },
	"groupItems": func(ctx context.Context, c *client.Client) error {
		_, err := c.GroupsPage(ctx, everyFilter, "c")
		return err
	},
	"noteGroup": func(ctx context.Context, c *client.Client) error {
		_, err := c.NoteGroup(ctx, "2f6a54c1d001", client.NoteRequest{Note: "n", Acknowledged: true})
		return err
	},
	"histogram": func(ctx context.Context, c *client.Client) error {
		_, err := c.Histogram(ctx, client.HistogramQuery{
			By: client.ByGroup, Interval: "1h", Since: time.Unix(1, 0), Until: time.Unix(2, 0), Sink: "a", Reason: client.ReasonConfig,
			Fingerprint: "f", Group: "g",
		})
		return err
	},
	"getItem": func(ctx context.Context, c *client.Client) error { _, err := c.Item(ctx, "a~1-1"); return err },
	"discardItem": func(ctx context.Context, c *client.Client) error {
		return c.Discard(ctx, "a~1-1", &client.ItemOptions{IfMatch: "e"})
	},
	"replayItem": func(ctx context.Context, c *client.Client) error {
		_, err := c.Replay(ctx, "a~1-1", &client.ReplayOptions{IfMatch: "e"})
		return err
	},
	"unparkItem": func(ctx context.Context, c *client.Client) error {
		_, err := c.Unpark(ctx, "a~1-1", &client.ItemOptions{IfMatch: "e"})
		return err
	},
	"listOperations": func(ctx context.Context, c *client.Client) error { _, err := c.Operations(ctx, 5); return err },
	"createOperation": func(ctx context.Context, c *client.Client) error {
		_, err := c.CreateOperation(ctx, "k", client.OperationRequest{})
		return err
	},
	"getOperation": func(ctx context.Context, c *client.Client) error { _, err := c.Operation(ctx, "op-1"); return err },
	"resumeOperation": func(ctx context.Context, c *client.Client) error {
		_, err := c.ResumeOperation(ctx, "op-1")
		return err
	},
	"cancelOperation": func(ctx context.Context, c *client.Client) error {
		_, err := c.CancelOperation(ctx, "op-1")
		return err
	},
	"exportItems": func(ctx context.Context, c *client.Client) error {
		_, _, err := c.ExportPage(ctx, everyFilter, "c")
		return err
	},
	"importItems": func(ctx context.Context, c *client.Client) error { _, err := c.Import(ctx, []byte("{}\n")); return err },
	"getDocument": func(ctx context.Context, c *client.Client) error { _, err := c.Document(ctx); return err },
}

var everyFilter = client.Filter{
	Sink: "a", Reason: client.ReasonConfig, State: client.StateDue, DeliveryID: "d", Q: "q", Fingerprint: "f",
	Group: "g", Meta: map[string]string{"k": "v"}, Since: time.Unix(1, 0), Until: time.Unix(2, 0),
}

// unoffered are header parameters that no method has.
var unoffered = map[string]string{
	"If-None-Match":               "a read of the client always wants the answer",
	"sendMessage Idempotency-Key": "Send puts the id into the body",
}

// Every route has a method, which calls it with every parameter that it takes and no other.
func TestEveryRouteHasAMethod(t *testing.T) {
	t.Parallel()
	d := document(t)
	router, err := gorillamux.NewRouter(d)
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, path := range d.Paths.Map() {
		for _, o := range path.Operations() {
			documented[o.OperationID] = true
			if calls[o.OperationID] == nil {
				t.Errorf("%s has no method", o.OperationID)
			}
		}
	}
	for id, call := range calls {
		if !documented[id] {
			t.Errorf("%s is not in the document", id)
			continue
		}
		var asked *http.Request
		c, err := client.New("http://h", &client.Options{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			asked = r
			w := httptest.NewRecorder()
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			_, err := io.WriteString(w, `{"code":"SINK_NOT_FOUND"}`)
			return w.Result(), err
		})})
		if err != nil {
			t.Fatal(err)
		}
		if err := call(t.Context(), c); fault.CodeOf(err) != fault.CodeSinkNotFound {
			t.Errorf("%s: %v, want the server's refusal", id, err)
			continue
		}
		route, _, err := router.FindRoute(asked)
		if err != nil || route.Operation.OperationID != id {
			t.Errorf("%s: asked %s %s: %v", id, asked.Method, asked.URL, err)
			continue
		}
		takes := map[string]bool{}
		for _, p := range slices.Concat(route.Operation.Parameters, route.PathItem.Parameters) {
			switch v := p.Value; {
			case v.In == "query":
				takes[v.Name] = true
				if !asked.URL.Query().Has(v.Name) {
					t.Errorf("%s: parameter %s is not sent", id, v.Name)
				}
			case v.In == "header" && asked.Header.Get(v.Name) == "" && cmp.Or(unoffered[v.Name], unoffered[id+" "+v.Name]) == "":
				t.Errorf("%s: header %s is not sent", id, v.Name)
			}
		}
		for name := range asked.URL.Query() {
			if !takes[name] {
				t.Errorf("%s: parameter %s is not in the document", id, name)
			}
		}
	}
}
