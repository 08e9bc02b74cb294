// Writes cases.json: what Go's text/template answers to the templates in cases.txt. Run here with `go run main.go`.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/template"
)

// One case: files to parse in order (the last one is run), and what came of it.
type result struct {
	Files [][2]string `json:"files"`
	Out   string      `json:"out,omitempty"`
	Err   string      `json:"err,omitempty"`
	Chain []string    `json:"chain,omitempty"`
}

const root = "gotpl"

func render(t *template.Template, name string, data any) (string, error) {
	var b bytes.Buffer
	err := t.ExecuteTemplate(&b, name, data)
	return b.String(), err
}

func bind(t *template.Template, depth map[string]int) {
	t.Funcs(template.FuncMap{
		"include": func(name string, data any) (string, error) {
			if depth[name] > 1000 {
				return "", fmt.Errorf("rendering template has a nested reference name: %s: %w", name, errors.New("unable to execute template"))
			}
			depth[name]++
			defer func() { depth[name]-- }()
			return render(t, name, data)
		},
		"tpl": func(text string, data any) (string, error) {
			c, err := t.Clone()
			if err != nil {
				return "", err
			}
			c.Option("missingkey=zero")
			bind(c, depth)
			m, err := c.New(root).Parse(text)
			if err != nil {
				return "", fmt.Errorf("cannot parse template %q: %w", text, err)
			}
			var b bytes.Buffer
			if err := m.Execute(&b, data); err != nil {
				return "", fmt.Errorf("error during tpl function execution for %q: %w", text, err)
			}
			return strings.ReplaceAll(b.String(), "<no value>", ""), nil
		},
	})
}

var funcs = template.FuncMap{
	"list":   func(v ...any) []any { return v },
	"dict":   func(v ...any) map[string]any { m := map[string]any{}; for i := 0; i+1 < len(v); i += 2 { m[fmt.Sprint(v[i])] = v[i+1] }; return m },
	"upper":  strings.ToUpper,
	"repeat": func(n int, s string) string { return strings.Repeat(s, n) },
	"fail":   func(m string) (string, error) { return "", errors.New(m) },
	"keys":   func(ms ...map[string]any) []string { var k []string; for _, m := range ms { for n := range m { k = append(k, n) } }; return k },
	"first":  func(l any) any { s := l.([]any); if len(s) == 0 { return nil }; return s[0] },
	"int64":  func(v any) int64 { switch n := v.(type) { case int: return int64(n); case float64: return int64(n) }; return 0 },
	"float64": func(v any) float64 { switch n := v.(type) { case int: return float64(n); case float64: return n }; return 0 },
}

func main() {
	raw, _ := os.ReadFile("data.json")
	text, _ := os.ReadFile("cases.txt")
	var all []result
	for _, block := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n====\n") {
		var r result
		parts := strings.Split(block, "\n----\n")
		for i, p := range parts {
			name := fmt.Sprintf("f%d", i)
			if i == len(parts)-1 {
				name = "main"
			}
			r.Files = append(r.Files, [2]string{name, p})
		}
		var data any
		if err := json.Unmarshal(raw, &data); err != nil {
			panic(err)
		}
		t := template.New(root).Option("missingkey=zero").Funcs(funcs)
		bind(t, map[string]int{})
		err := error(nil)
		for _, f := range r.Files {
			if _, err = t.New(f[0]).Parse(f[1]); err != nil {
				break
			}
		}
		if err == nil {
			r.Out, err = render(t, "main", data)
		}
		if err != nil {
			r.Out, r.Err = "", err.Error()
			for e := err; e != nil; e = errors.Unwrap(e) {
				if n := len(r.Chain); n == 0 || r.Chain[n-1] != e.Error() {
					r.Chain = append(r.Chain, e.Error())
				}
			}
			if len(r.Chain) == 1 {
				r.Chain = nil
			}
		}
		all = append(all, r)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(all); err != nil {
		panic(err)
	}
	if err := os.WriteFile("cases.json", b.Bytes(), 0o644); err != nil {
		panic(err)
	}
}
