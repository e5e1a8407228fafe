package sinks_test

import (
	"context"
	"fmt"
	"unicode/utf8"

	"backstop/lib/sinks"
)

// Kind is what a configuration calls this kind of sink.
const Kind = "board"

// Importing the package is enough to make the kind known.
func init() {
	sinks.RegisterFactory(Kind, func(name string, raw map[string]any) (sinks.Sink, error) {
		return sinks.Configure(raw, func(c Config) (*Board, error) { return New(name, c) })
	})
}

// Config is the configuration of a board.
type Config struct {
	Title string `json:"title"` // required
}

// Board is a sink that prints: a notice board with room for 20 characters a line.
type Board struct{ name, title string }

// New returns the board called name. It does no I/O.
func New(name string, c Config) (*Board, error) {
	if c.Title == "" {
		return nil, &sinks.ConfigError{Key: "title", Msg: "required"}
	}
	return &Board{name, c.Title}, nil
}

// Name returns the sink's name.
func (b *Board) Name() string { return b.name }

// Validate says, without any I/O, what can never be sent. Send applies the same rule.
func (b *Board) Validate(_ sinks.Recipient, m sinks.Message) error {
	if utf8.RuneCountInString(m.Body) > 20 {
		return sinks.Terminal(&sinks.Error{Code: sinks.CodeInvalidArgument, Msg: "message.body: longer than a line"})
	}
	return nil
}

// Send makes one attempt. Whoever calls it tries again, as far as the error's mark allows it.
func (b *Board) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	if err := b.Validate(to, m); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "ended before it was sent", Cause: err}
	}
	fmt.Printf("%s | %s\n", b.title, m.Body)
	return nil
}

// A kind of one's own is a type with two methods, and a factory that reads its configuration
// strictly. A configured sink is built by its kind's name.
func Example() {
	ctx := context.Background()
	board, err := sinks.BuildSink("board", "lobby", map[string]any{"title": "Lobby"})
	if err != nil {
		panic(err)
	}
	fmt.Println(board.Send(ctx, nil, sinks.Message{ID: "visit-7", Body: "Ann is here"}))
	fmt.Println(board.Send(ctx, nil, sinks.Message{ID: "visit-8", Body: "Bob, who wants to see Ann, is here"}))

	// All that is wrong with a configuration is told together.
	_, err = sinks.BuildSink("board", "lobby", map[string]any{"titel": "Lobby"})
	fmt.Println(err)
	// Output:
	// Lobby | Ann is here
	// <nil>
	// INVALID_ARGUMENT: message.body: longer than a line
	// SINK_CONFIG_INVALID: sink "lobby": titel: unknown key; known: title
	// title: required
}
