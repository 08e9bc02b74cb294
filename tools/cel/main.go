// What Kubernetes' own CEL says, for the tests of druse's: kube.py builds and runs it.
//
//	cel functions      the functions and names of its environment, as crates/apiserver/data/cel.tsv has them
//	cel judge <CASES   a rule of a schema a line of JSON; a line of JSON with its cost or what is wrong with it
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/types"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
)

func base() *environment.EnvSet {
	return environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
}

func functions() {
	// What only patches may use is in the same table.
	env, err := base().NewExpressionsEnv().Extend(library.JSONPatch())
	if err != nil {
		panic(err)
	}
	names := []string{}
	for name := range env.Functions() {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		for _, o := range env.Functions()[name].OverloadDecls() {
			kind, args := "function", []string{}
			if o.IsMemberFunction() {
				kind = "method"
			}
			for _, a := range o.ArgTypes() {
				args = append(args, shown(a))
			}
			fmt.Println(strings.Join([]string{kind, name, o.ID(), shown(o.ResultType()), strings.Join(args, " ")}, "\t"))
		}
	}
	lines := []string{}
	for _, v := range env.Variables() {
		lines = append(lines, strings.Join([]string{"name", v.Name(), "", shown(v.Type()), ""}, "\t"))
	}
	// What has a name as a type and is no declared variable.
	for _, name := range []string{"net.IP", "net.CIDR", "optional_type"} {
		ast, issues := env.Compile(name)
		if issues != nil {
			panic(issues)
		}
		lines = append(lines, strings.Join([]string{"name", name, "", shown(ast.OutputType()), ""}, "\t"))
	}
	sort.Strings(lines)
	fmt.Println(strings.Join(lines, "\n"))
}

// A type without spaces; message types begin with a dot and type parameters with a quote.
func shown(t *types.Type) string {
	switch t.Kind() {
	case types.StructKind:
		return "." + t.TypeName()
	case types.TypeParamKind:
		return "'" + t.TypeName()
	}
	out := []string{}
	for _, p := range t.Parameters() {
		out = append(out, shown(p))
	}
	name := checker.FormatCELType(t)
	if len(out) == 0 {
		if t.Kind() == types.OpaqueKind {
			return name + "()"
		}
		return name
	}
	return t.TypeName() + "(" + strings.Join(out, ",") + ")"
}

type rule struct {
	Schema            v1.JSONSchemaProps `json:"schema"`
	Rule              string             `json:"rule"`
	MessageExpression string             `json:"messageExpression,omitempty"`
	OptionalOldSelf   *bool              `json:"optionalOldSelf,omitempty"`
}

type verdict struct {
	Cost         *uint64 `json:"cost,omitempty"`
	Cardinality  uint64  `json:"cardinality,omitempty"`
	MessageCost  uint64  `json:"messageCost,omitempty"`
	Error        string  `json:"error,omitempty"`
	MessageError string  `json:"messageError,omitempty"`
}

func judge(r rule) (out verdict) {
	defer func() {
		if e := recover(); e != nil {
			out = verdict{Error: fmt.Sprint("panic: ", e)}
		}
	}()
	r.Schema.XValidations = nil
	internal := apiextensions.JSONSchemaProps{}
	if err := v1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(&r.Schema, &internal, nil); err != nil {
		return verdict{Error: err.Error()}
	}
	structural, err := schema.NewStructural(&internal)
	if err != nil {
		return verdict{Error: "schema: " + err.Error()}
	}
	structural.XValidations = v1.ValidationRules{{
		Rule: r.Rule, MessageExpression: r.MessageExpression, OptionalOldSelf: r.OptionalOldSelf,
	}}
	results, err := cel.Compile(structural, model.SchemaDeclType(structural, false), celconfig.PerCallLimit, base(), cel.NewExpressionsEnvLoader())
	if err != nil {
		return verdict{Error: err.Error()}
	}
	c := results[0]
	out = verdict{Cardinality: c.MaxCardinality, MessageCost: c.MessageExpressionMaxCost}
	if c.Error != nil {
		out.Error = c.Error.Detail
	} else {
		out.Cost = &c.MaxCost
	}
	if c.MessageExpressionError != nil {
		out.MessageError = c.MessageExpressionError.Detail
	}
	return out
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "functions" {
		functions()
		return
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var r rule
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		line, _ := json.Marshal(judge(r))
		fmt.Println(string(line))
	}
}
