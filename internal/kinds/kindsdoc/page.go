package main

import (
	"fmt"
	"strings"

	"backstop/internal/kinds"
)

const intro = `# Kinds of sinks

<!-- Written by go run ./internal/kinds/kindsdoc; make generate does it. -->

All kinds that are built in. [configuration.md](configuration.md#keys-of-every-kind) has the keys that every kind has;
[custom-sinks.md](custom-sinks.md) tells how to add one. On a terminal, ` + "`backstop sink kinds`" + ` lists them, and
` + "`backstop sink example KIND`" + ` prints a block to begin with.

Facts are from each provider's documentation: the page and the day on which it was read are named. What could not be confirmed
there is marked so. No kind was tried against its provider's real service yet: each is tested with answers that are composed from
that documentation, and with receivers that hang, break off or answer nonsense.

| kind | what | duplicates | recipient | seen against the real service |
|---|---|---|---|---|
`

const common = `
## What holds for all of them

- **Duplicates.** A second copy may go out where nobody knows whether the first arrived: the request was sent, and no answer came.
  A receiver that recognises it drops or replaces it. So an uncertain message is sent again only within the time for which the
  receiver is said to recognise it, and is otherwise left to an operator (` + "`on_ambiguous`" + ` says otherwise).
- **Answers.** The tables say what an answer means; the first line that holds decides. *Transient* is tried again, then
  dead-lettered and replayed by the schedule. *Terminal* is dead-lettered, and an operator decides. *Gone* is terminal, and
  nothing will ever arrive at that recipient. *Ambiguous* was sent, and whether it was taken is not known.
- **No answer.** No connection, one that broke before the request was written, and a refusal before the body is taken are
  transient, a bad certificate is terminal. What was sent and not answered is ambiguous, always, and so is an answer that
  cannot be parsed.
- **Waits.** A ` + "`Retry-After`" + ` counts everywhere. With 429 and 503 it holds back everybody, or those alone who share the value
  that *rate by* names.
- **Limits** are checked before anything is sent: more is refused as ` + "`INVALID_ARGUMENT`" + `.
- **Secrets** are marked; wherever a text is expected, ` + "`{ssm: /path}`" + ` stands for a parameter's value. Errors and logs show a URL as
  scheme and host alone.
`

// generate returns the page.
func generate() (string, error) {
	all, err := kinds.All()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(intro)
	for _, k := range all {
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %s | no |\n", k.Name, k.Name, cell(k.About), cell(k.Duplicates()), recipients(k))
	}
	b.WriteString(common)
	for _, k := range all {
		section(&b, k)
	}
	return b.String(), nil
}

func recipients(k *kinds.Kind) string {
	if len(k.Recipient) == 0 {
		if s := k.Recipients(); s != "" {
			return s
		}
		return "none"
	}
	var all []string
	for _, f := range k.Recipient {
		name := code(f.Name)
		if !f.Required {
			name += " (optional)"
		}
		all = append(all, name)
	}
	return strings.Join(all, ", ")
}

func section(b *strings.Builder, k *kinds.Kind) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n", k.Name, k.About)
	b.WriteString("\n")
	keys(b, "key", k.Keys)
	switch {
	case len(k.Recipient) > 0:
		b.WriteString("\n")
		keys(b, "recipient", k.Recipient)
	case k.Recipients() != "":
		fmt.Fprintf(b, "\n**Recipient**: %s.\n", k.Recipients())
	default:
		b.WriteString("\n**Recipient**: none.\n")
	}
	if len(k.Metadata) > 0 {
		fmt.Fprintf(b, "\n**Metadata** that is used: %s.\n", codes(k.Metadata))
	}
	b.WriteString("\n| answer | means |\n|---|---|\n")
	for _, a := range k.Answers {
		fmt.Fprintf(b, "| %s | %s |\n", cell(a.Answer), a.Means)
	}
	b.WriteString("\n")
	fmt.Fprintf(b, "- **Duplicates**: %s.", k.Duplicates())
	if k.RateBy != "" {
		fmt.Fprintf(b, " **Rate by**: %s.", k.RateBy)
	}
	b.WriteString("\n")
	if len(k.Limits) > 0 {
		fmt.Fprintf(b, "- **Limits**: %s.\n", strings.Join(k.Limits, "; "))
	}
	for _, note := range k.Notes {
		fmt.Fprintf(b, "- %s\n", text(note))
	}
	b.WriteString("- ")
	if k.Source.Page != "" {
		fmt.Fprintf(b, "Source: <%s>", k.Source.Page)
		if k.Source.Read != "" {
			fmt.Fprintf(b, ", read on %s", k.Source.Read)
		}
		b.WriteString(". ")
	}
	b.WriteString("Seen against the real service: no.\n")
}

func keys(b *strings.Builder, head string, all []kinds.Key) {
	fmt.Fprintf(b, "| %s | type | default | about |\n|---|---|---|---|\n", head)
	for _, k := range all {
		fallback := "none"
		switch {
		case k.Required:
			fallback = "required"
		case k.Default != "":
			fallback = code(k.Default)
		}
		about := text(k.About)
		if choices := k.Unsaid(); choices != nil {
			about = strings.TrimSpace(about + " One of " + codes(choices) + ".")
		}
		if k.With != "" {
			about = strings.TrimSpace(about + " With " + code(k.With) + ".")
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", code(k.Name), k.Type, fallback, cell(about))
	}
}

func codes(words []string) string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = code(w)
	}
	return strings.Join(all, ", ")
}

func code(s string) string { return "`" + s + "`" }

// text escapes what Markdown would take for markup.
func text(s string) string {
	parts := strings.Split(s, "`")
	for i := 0; i < len(parts); i += 2 {
		parts[i] = strings.NewReplacer("<", "&lt;", "*", `\*`).Replace(parts[i])
	}
	return strings.Join(parts, "`")
}

// cell is a text in a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
